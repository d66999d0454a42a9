//! The byte-stream adapter worker for ssh, web and tcp resources.
