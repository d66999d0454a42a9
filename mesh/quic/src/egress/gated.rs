//! A resource's stream that lets bytes pass for as long as this node holds the lease.
//!
//! A timer that ends the flow is late exactly when it matters: after the process stood still. So
//! each read and each write asks, too.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rap_proto::Leased;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{ByteStream, mesh::Mesh};

pub(super) struct Gated {
    pub(super) stream: Box<dyn ByteStream>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) leased: Leased,
}

impl Gated {
    fn check(&self) -> io::Result<()> {
        let held = self.mesh.fencing.held(self.leased);
        held.map(drop)
            .map_err(|code| io::Error::new(io::ErrorKind::PermissionDenied, code.as_str()))
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl ByteStream for Gated {
    fn other_side_is_gone(&self) -> bool {
        self.stream.other_side_is_gone()
    }
}
