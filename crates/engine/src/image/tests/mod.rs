//! The decoders and the store of images, against archives made here byte by
//! byte, servers on loopback, and a store of layers in a temporary directory.

mod archives;

mod hostile;
mod mutate;
mod squash;
mod tarballs;
