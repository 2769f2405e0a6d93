//! Egress policies: what a pixel may reach.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How a pixel's outgoing traffic is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressMode {
    /// No filtering.
    #[default]
    Unrestricted,
    /// What agents need (AI APIs, package registries, Git hosts) and the policy's own domains.
    Agent,
    /// The policy's own domains and nothing else.
    Allowlist,
}

impl EgressMode {
    /// The mode's name as commands and configuration spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unrestricted => "unrestricted",
            Self::Agent => "agent",
            Self::Allowlist => "allowlist",
        }
    }

    /// Whether the mode forbids anything, and so needs a backend that can enforce it.
    pub fn is_restricted(self) -> bool {
        self != Self::Unrestricted
    }
}

impl fmt::Display for EgressMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EgressMode {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        [Self::Unrestricted, Self::Agent, Self::Allowlist]
            .into_iter()
            .find(|m| m.as_str() == s)
            .ok_or_else(|| {
                Error::invalid("egress mode", s, "a mode is unrestricted, agent or allowlist")
            })
    }
}

/// The egress policy of a pixel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How traffic is treated.
    pub mode: EgressMode,
    /// The domains that were allowed by name, in the order in which they were.
    pub domains: Vec<String>,
}
