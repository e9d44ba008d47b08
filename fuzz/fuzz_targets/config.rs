#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scheduler_watchdog_fuzz::config(input));
