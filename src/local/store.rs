//! Where local shells keep state: in memory, or in a JSON file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::snapshot::{CallError, Obstacle};
use crate::state::{State, Unreadable};
use crate::world::{StoreError, Version};

/// States by scheduler.
#[derive(Debug)]
pub(super) enum Store {
    /// For as long as the program runs.
    Memory(RefCell<BTreeMap<String, (State, Version)>>),
    /// In a file.
    File(PathBuf),
}

/// The file: one document for each scheduler, as the state table holds it.
#[derive(Default, Serialize, Deserialize)]
struct Document {
    schedulers: BTreeMap<String, Item>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    version: Version,
    updated_at: Timestamp,
    /// Read apart, so that one scheduler's broken state does not concern another's.
    state: Value,
}

impl Store {
    /// Tries whether a state could be saved.
    pub fn try_to_write(&self) -> io::Result<()> {
        let Self::File(path) = self else {
            return Ok(());
        };
        let _lock = lock(path)?;
        let draft = beside(path, ".new");
        File::create(&draft)?;
        fs::remove_file(&draft)
    }

    pub fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError> {
        match self {
            Self::Memory(states) => Ok(states.borrow().get(scheduler).cloned().unwrap_or_default()),
            Self::File(path) => match read(path)?.schedulers.remove(scheduler) {
                Some(item) => Ok((State::from_json(&item.state.to_string())?, item.version)),
                None => Ok((State::default(), 0)),
            },
        }
    }

    pub fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
        now: Timestamp,
    ) -> Result<Version, StoreError> {
        match self {
            Self::Memory(states) => {
                let mut states = states.borrow_mut();
                let (known, current) = states.entry(scheduler.to_owned()).or_default();
                if *current != version {
                    return Err(StoreError::Conflict);
                }
                known.clone_from(state);
                *current += 1;
                Ok(*current)
            }
            Self::File(path) => save(path, scheduler, state, version, now),
        }
    }
}

fn read(path: &Path) -> Result<Document, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Document::default()),
        Err(error) => return Err(call(path, "read", &error)),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let why = format!("{}: {error}", path.display());
        Unreadable::Broken { why }.into()
    })
}

fn save(
    path: &Path,
    scheduler: &str,
    state: &State,
    version: Version,
    now: Timestamp,
) -> Result<Version, StoreError> {
    let failed = |error| call(path, "written", &error);
    let _lock = lock(path).map_err(failed)?;

    let mut document = read(path)?;
    let current = document.schedulers.get(scheduler);
    if let Some(item) = current {
        // What cannot be read is never overwritten.
        State::from_json(&item.state.to_string())?;
    }
    if current.map_or(0, |item| item.version) != version {
        return Err(StoreError::Conflict);
    }
    let state =
        serde_json::from_str(&state.to_json()).map_err(|error| failed(io::Error::other(error)))?;
    let item = Item {
        version: version + 1,
        updated_at: now,
        state,
    };
    document.schedulers.insert(scheduler.to_owned(), item);
    let mut text =
        serde_json::to_vec_pretty(&document).map_err(|error| failed(io::Error::other(error)))?;
    text.push(b'\n');

    // Replaced in one step, so that no reader and no crash sees half a file.
    let draft = beside(path, ".new");
    let mut file = File::create(&draft).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)?;
    Ok(version + 1)
}

/// Keeps others from writing until it is dropped. The file itself cannot be locked, because it is
/// replaced.
fn lock(path: &Path) -> io::Result<File> {
    let lock = File::create(beside(path, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// A file of the same name with an ending, in the same directory.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn call(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let obstacle = match error.kind() {
        ErrorKind::NotFound => Obstacle::Missing,
        ErrorKind::PermissionDenied => Obstacle::Denied,
        _ => Obstacle::Failed,
    };
    let detail = format!(
        "the state file {} cannot be {what}: {error}",
        path.display()
    );
    CallError::new(obstacle, detail).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T04:00:00Z".parse().unwrap()
    }

    fn state(installed_at: &str) -> State {
        State {
            schema: crate::state::SCHEMA,
            installed_at: Some(installed_at.parse().unwrap()),
            ..State::default()
        }
    }

    fn stores(directory: &Path) -> [Store; 2] {
        [
            Store::Memory(RefCell::default()),
            Store::File(directory.join("state.json")),
        ]
    }

    #[test]
    fn what_is_saved_is_loaded_and_who_comes_second_loses() {
        let directory = tempfile::tempdir().unwrap();
        for store in stores(directory.path()) {
            assert_eq!(store.load("a"), Ok((State::default(), 0)));
            let (one, two) = (state("2026-11-24T03:00:00Z"), state("2026-11-24T03:05:00Z"));
            assert_eq!(store.save("a", &one, 0, now()), Ok(1));
            assert_eq!(store.save("a", &two, 0, now()), Err(StoreError::Conflict));
            assert_eq!(store.load("a"), Ok((one, 1)));
            assert_eq!(store.save("a", &two, 1, now()), Ok(2));
            assert_eq!(store.load("a"), Ok((two, 2)));
            assert_eq!(store.load("b"), Ok((State::default(), 0)));
        }
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["state.json", "state.json.lock"]);
    }

    #[test]
    fn one_schedulers_broken_state_is_its_own_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let text = r#"{"schedulers": {
            "newer": {"version": 7, "updated_at": "2026-11-24T04:00:00Z", "state": {"schema": 99}},
            "broken": {"version": 7, "updated_at": "2026-11-24T04:00:00Z", "state": 5}}}"#;
        fs::write(&path, text).unwrap();
        let store = Store::File(path.clone());
        assert!(matches!(
            store.load("newer"),
            Err(StoreError::Unreadable(Unreadable::Newer { found: 99 }))
        ));
        for name in ["newer", "broken"] {
            assert!(matches!(
                store.save(name, &State::default(), 7, now()),
                Err(StoreError::Unreadable(_))
            ));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(store.save("fine", &State::default(), 0, now()), Ok(1));
        assert!(store.load("broken").is_err());
    }

    #[test]
    fn a_file_that_is_no_state_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "my diary").unwrap();
        let store = Store::File(path.clone());
        assert!(matches!(store.load("a"), Err(StoreError::Unreadable(_))));
        assert!(store.save("a", &State::default(), 0, now()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "my diary");
    }

    #[test]
    fn a_directory_that_does_not_exist_is_named() {
        let store = Store::File(PathBuf::from("no/such/state.json"));
        let Err(StoreError::Call(error)) = store.save("a", &State::default(), 0, now()) else {
            panic!("saved");
        };
        assert!(error.detail.contains("no/such/state.json"), "{error}");
    }
}
