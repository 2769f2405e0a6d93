//! The verbs, one file each.

mod checkpoint;
mod create;
mod environment;
mod exec;
mod gc;
mod lifecycle;
mod run;

pub use checkpoint::RestorePlan;
pub use create::CreateRequest;
pub use gc::GcReport;
pub use run::RunRequest;
