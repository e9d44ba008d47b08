//! The inputs that fuzzing found worth keeping, through the very targets that the fuzzer calls.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// What is kept in all, in bytes: every test run reads it, and so do people.
const MOST_KEPT: u64 = 200 * 1024;

#[test]
fn kept_inputs_break_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut bytes = 0;
    for (name, target) in targets::TARGETS {
        let files = fs::read_dir(corpus.join(name)).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "nothing is kept of {name}");
        for file in files {
            let input = fs::read(&file).unwrap();
            bytes += input.len() as u64;
            let survives = std::panic::catch_unwind(|| target(&input)).is_ok();
            assert!(survives, "{}", file.display());
        }
    }
    assert!(bytes <= MOST_KEPT, "{bytes} bytes are kept");
    let known = targets::TARGETS.map(|(name, _)| name);
    for directory in fs::read_dir(corpus).unwrap() {
        let name = directory.unwrap().file_name();
        let name = name.to_string_lossy();
        assert!(known.contains(&&*name), "{name} has no target");
    }
}
