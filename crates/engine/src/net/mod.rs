//! The network of pixels, as seen from the host.
//!
//! As root every pixel has a routed pair of interfaces (made by the static
//! binary, see its `link.rs`), one address of the subnet, and one static table of
//! rules for all ([`firewall`]). Rootless ones get `pasta` ([`pasta`]).

pub mod dial;
pub mod doctor;
pub mod firewall;
pub mod interface;
mod netlink;
pub mod pasta;
pub mod resolvers;
pub mod routes;
pub mod subnet;
pub(crate) mod tool;

use std::net::Ipv4Addr;

use pixels_core::{Error, Result};

/// The backend's name in errors.
const LOCAL: &str = "local";

/// The host's address on every pixel's link. Only pixels see it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// What a pixel is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own loopback alone.
    None,
    /// Everything that the host reaches, but not other pixels or the host itself.
    Open,
}

impl Network {
    /// What the setting `network` asks for.
    ///
    /// # Errors
    /// `Invalid` for anything but `none`: there are no other networks here.
    pub fn of_setting(setting: Option<&str>) -> Result<Self> {
        match setting {
            None => Ok(Self::Open),
            Some("none") => Ok(Self::None),
            Some(other) => {
                let rule = "the local backend has one network, which goes without a name, and none";
                Err(Error::invalid("network", other, rule)
                    .with_hint("leave it out, or --network none for a pixel without a network"))
            }
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Open => "open",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_unset_or_none() {
        assert_eq!(Network::of_setting(None).unwrap(), Network::Open);
        assert_eq!(Network::of_setting(Some("none")).unwrap(), Network::None);
        for other in ["", "None", "bridge", "host"] {
            assert_eq!(Network::of_setting(Some(other)).unwrap_err().code(), "invalid", "{other}");
        }
    }
}
