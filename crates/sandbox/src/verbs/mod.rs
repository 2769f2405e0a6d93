//! The verbs, one file each.

mod checkpoint;
mod create;
mod environment;
mod exec;
mod forward;
mod gc;
mod lifecycle;
mod run;

pub use checkpoint::RestorePlan;
pub use create::CreateRequest;
pub use forward::Forward;
pub use gc::GcReport;
pub use run::RunRequest;
