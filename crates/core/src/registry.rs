//! Backends by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Error, Result, Sandbox};

/// A backend's own configuration section: key to value, as text. Each backend
/// reads the keys it knows and refuses values that it cannot use.
pub type Settings = BTreeMap<String, String>;

/// Makes a backend from its settings. It must not open a connection: the first
/// call does.
pub type Factory = Box<dyn Fn(&Settings) -> Result<Arc<dyn Sandbox>> + Send + Sync>;

/// The backends a program knows. There is no global one: whoever opens a
/// backend says which there are.
///
/// ```
/// use pixels_core::{memory, Registry, Settings};
/// let mut backends = Registry::new();
/// backends.register("memory", memory::factory());
/// assert!(backends.open("memory", &Settings::new()).is_ok());
/// assert!(backends.open("vmware", &Settings::new()).is_err());
/// ```
#[derive(Default)]
pub struct Registry(BTreeMap<String, Factory>);

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a backend available as `name`. A second one under the same name replaces the first.
    pub fn register(&mut self, name: &str, factory: Factory) {
        self.0.insert(name.to_owned(), factory);
    }

    /// The names registered, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Opens the backend called `name` with its settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that nothing is registered under; what
    /// the factory says otherwise.
    pub fn open(&self, name: &str, settings: &Settings) -> Result<Arc<dyn Sandbox>> {
        match self.0.get(name) {
            Some(factory) => factory(settings),
            None => Err(Error::Invalid {
                what: "backend".into(),
                value: name.into(),
                rule: format!(
                    "a backend is one of: {}",
                    self.names().collect::<Vec<_>>().join(", ")
                ),
            }),
        }
    }
}
