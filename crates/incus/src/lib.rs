//! placeholder

pub mod sftp;
