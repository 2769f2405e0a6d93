//! Disposable Linux machines, as a library.

pub mod config;
pub mod duration;
mod facade;
mod parse;
pub mod select;
mod transfer;
mod verbs;

pub use config::{Config, ConfigError, Loader};
pub use facade::{Outcome, Pixels, Targets};
pub use parse::{Origin, Remote, variable};
pub use pixels_core::*;
pub use transfer::{PullOpts, PushOpts, Transferred};
pub use verbs::{CreateRequest, GcReport, RestorePlan, RunRequest};
