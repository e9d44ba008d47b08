//! Everything together, as its users see it.

mod aws;
