//! What the library asks of the faces that run on the host.
