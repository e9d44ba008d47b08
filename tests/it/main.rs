//! All integration tests in one binary: one build, one start.

mod decide;
mod stage;
