//! The face `tree`: what is done to the trees of the store, in its user namespace.

mod write;
