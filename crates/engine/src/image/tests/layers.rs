//! A store of layers in memory, and images on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pixels_core::{Error, Event, Progress, Result};

use super::archives::{Item, SMALL, parse};
use crate::image::debootstrap::Machine;
use crate::image::layer::{LayerInProgress, LayerStore};
use crate::image::{Images, Settings};

/// What is in a layer, and who refers to it.
type Layer = (Vec<Item>, BTreeSet<String>);

/// Layers by name: what is in them and who refers to them.
#[derive(Default)]
pub(crate) struct Memory {
    layers: Mutex<BTreeMap<String, Layer>>,
    begun: Mutex<usize>,
    /// What a writer says instead of writing.
    pub(crate) fail: Mutex<Option<String>>,
}

impl Memory {
    pub(crate) fn names(&self) -> Vec<String> {
        self.layers.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn items(&self, layer: &str) -> Vec<Item> {
        self.layers.lock().unwrap()[layer].0.clone()
    }

    pub(crate) fn referrers(&self, layer: &str) -> BTreeSet<String> {
        self.layers.lock().unwrap()[layer].1.clone()
    }

    pub(crate) fn begun(&self) -> usize {
        *self.begun.lock().unwrap()
    }
}

struct Growing {
    store: Arc<Memory>,
    id: String,
    writer: Option<std::thread::JoinHandle<std::io::Result<Vec<Item>>>>,
}

pub(crate) struct Store(pub(crate) Arc<Memory>);

#[async_trait]
impl LayerStore for Store {
    async fn begin(&self) -> Result<Box<dyn LayerInProgress>> {
        let mut begun = self.0.begun.lock().unwrap();
        *begun += 1;
        let id = format!("layer-{begun}");
        Ok(Box::new(Growing { store: Arc::clone(&self.0), id, writer: None }))
    }

    async fn hold(&self, layer: &str, referrer: &str) -> Result<bool> {
        let mut layers = self.0.layers.lock().unwrap();
        Ok(layers.get_mut(layer).map(|(_, refs)| refs.insert(referrer.into())).is_some())
    }

    async fn release(&self, layer: &str, referrer: &str) -> Result<()> {
        let mut layers = self.0.layers.lock().unwrap();
        if let Some((_, refs)) = layers.get_mut(layer) {
            refs.remove(referrer);
            if refs.is_empty() {
                layers.remove(layer);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LayerInProgress for Growing {
    fn id(&self) -> &str {
        &self.id
    }

    fn input(&mut self) -> Box<dyn Write + Send> {
        let (read, write) = std::io::pipe().unwrap();
        let fail = self.store.fail.lock().unwrap().clone();
        self.writer = Some(std::thread::spawn(move || match fail {
            Some(message) => Err(std::io::Error::other(message)),
            None => parse(std::io::BufReader::new(read)),
        }));
        Box::new(write)
    }

    async fn finish(mut self: Box<Self>, referrer: &str) -> Result<u64> {
        let writer = self.writer.take().unwrap();
        let written = writer.join().unwrap();
        let items = written.map_err(|e| Error::backend("writing", e.to_string()))?;
        let bytes = items.iter().map(|(_, content)| content.len() as u64).sum();
        let layer = (items, BTreeSet::from([referrer.to_owned()]));
        self.store.layers.lock().unwrap().insert(self.id.clone(), layer);
        Ok(bytes)
    }
}

/// Images in a temporary directory.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<Memory>,
    pub(crate) settings: Settings,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    /// With an image server at an address.
    pub(crate) fn new(server: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            server: server.into(),
            server_ca: None,
            default_image: "ubuntu/24.04".into(),
            home: Some(dir.path().into()),
            docker_configs: vec![dir.path().join("docker/config.json")],
            helper_path: None,
            limits: SMALL,
            machine: Machine {
                apt: "/nowhere".into(),
                os_release: dir.path().join("os-release"),
                path: dir.path().join("bin").into(),
            },
        };
        Self { dir, store: Arc::default(), settings, events: Arc::default() }
    }

    /// As another process has them: nothing is shared but the files.
    pub(crate) fn images(&self) -> Images {
        let store = Arc::new(Store(Arc::clone(&self.store)));
        Images::new(&self.dir.path().join("store"), store, self.settings.clone())
    }

    pub(crate) fn progress(&self) -> Progress {
        let events = Arc::clone(&self.events);
        Progress::new(move |event| events.lock().unwrap().push(event))
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let texts = events.iter().filter_map(|e| match e {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }

    /// What is left below `tmp`.
    pub(crate) fn leftovers(&self) -> usize {
        let tmp = self.dir.path().join("store/tmp");
        std::fs::read_dir(tmp).map_or(0, Iterator::count)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    crate::image::hex(&sha2::Sha256::digest(bytes))
}
