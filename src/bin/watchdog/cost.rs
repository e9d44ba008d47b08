//! `watchdog cost`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use scheduler_watchdog::config::Config;
use scheduler_watchdog::cost::Fleet;

use crate::{Failure, Format, configuration, duration, now, print, with_aws};

#[derive(Args)]
pub struct CostArgs {
    /// The configuration [default: $WATCHDOG_CONFIG, ./watchdog.toml, or the variables
    /// WATCHDOG_…].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Gigabytes a month in each log group; by default they are measured.
    #[arg(long, value_name = "GB", conflicts_with = "over", value_parser = gigabytes)]
    gigabytes: Option<f64>,
    /// Measure over this time until now.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    over: SignedDuration,
    /// The time between passes.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    every: SignedDuration,
    /// The function's memory in MB.
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(128..=10_240))]
    memory: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn gigabytes(text: &str) -> Result<f64, String> {
    (text
        .parse()
        .ok()
        .filter(|gb: &f64| gb.is_finite() && *gb >= 0.0))
    .ok_or_else(|| "expected a number such as 12.5".into())
}

/// A month.
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

pub fn run(args: CostArgs) -> Result<u8, Failure> {
    let least = SignedDuration::from_mins(1);
    if args.over < least || args.every < least {
        return Err("--over and --every must be a minute at least".into());
    }
    let (config, _) = configuration(args.config.clone())?;
    let measured = match args.gigabytes {
        Some(_) => BTreeMap::new(),
        None => measure(&config, args.over)?,
    };
    let gigabytes = |groups: &[String]| {
        (args.gigabytes)
            .or_else(|| measured.get(groups).copied())
            .unwrap_or(0.0)
    };
    let fleet = Fleet::of(&config, args.every, args.memory, gigabytes);
    let month = fleet.month();
    print(&match args.format {
        Format::Text => month.text(&fleet),
        Format::Json => format!("{:#}\n", month.json(&fleet)),
    })?;
    Ok(0)
}

/// Gigabytes a month in each set of log groups.
fn measure(config: &Config, over: SignedDuration) -> Result<BTreeMap<Vec<String>, f64>, Failure> {
    let until = now();
    with_aws(config, async |world| {
        let mut measured = BTreeMap::new();
        for scheduler in &config.schedulers {
            let groups = &scheduler.log_groups;
            if !measured.contains_key(groups) {
                let bytes = world.volume(groups, until - over, until).await?;
                let months = MONTH.as_secs_f64() / over.as_secs_f64();
                measured.insert(groups.clone(), bytes as f64 / 1e9 * months);
            }
        }
        Ok(measured)
    })
}
