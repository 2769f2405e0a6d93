//! The decoders and the store of images, against archives made here byte by
//! byte, servers on loopback, and a store of layers in memory.

mod archives;
mod hostile;
mod layers;
mod local;
mod mutate;
mod registry;
mod server;
mod simplestreams;
mod squash;
mod tarballs;
