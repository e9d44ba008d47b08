//! Causes, found in what was really printed.
