//! End to end: the bootstrap that is deployed, against an emulator of AWS that enforces IAM.
//!
//! [`deployed`] deploys the real template and lets the schedule wake the function. [`standalone`]
//! runs the same bootstrap under AWS's own runtime interface emulator, where a test sees every
//! line that it prints and every call that it makes. [`faults`] lets each of these calls go wrong in
//! each way.
//!
//! The clock is the real one. What would take minutes is made to lie in the past instead: log
//! lines carry older times, ECS services are created old, and [`state::StateTable::pass_minutes`]
//! ages what the watchdog remembers of its own looks.

pub mod aws;
mod bench;
mod deployed;
pub mod emulator;
mod faults;
mod inbox;
mod permissions;
pub mod process;
mod proxy;
mod rie;
mod site;
mod stack;
mod standalone;
mod state;
mod stories;
pub mod tools;
