//! The one integration binary.

mod cause;
mod message;
