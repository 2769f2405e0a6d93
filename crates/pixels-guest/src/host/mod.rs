//! The faces that run on the host: they make pixels and enter them.

mod tree;
