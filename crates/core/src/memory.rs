//! placeholder
pub fn factory() -> crate::Factory {
    unimplemented!()
}
