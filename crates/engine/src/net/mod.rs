//! The network of pixels: addresses, isolation, name servers.
