//! Path choice, relay flows and admission, as pure machines.
