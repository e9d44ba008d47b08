//! `watchdog silence`: arguments, the store, and what is printed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use scheduler_watchdog::condition::Condition;
use scheduler_watchdog::config::{Config, Environment, Scheduler};
use scheduler_watchdog::local::{self, Files, LocalWorld};
use scheduler_watchdog::operator;
use scheduler_watchdog::silence::{self, OneOff};
use scheduler_watchdog::world::World;

use super::{Failure, Moment, configuration, duration, moment, now, on_aws, print, runtime};

#[derive(Subcommand)]
pub enum SilenceCommand {
    /// Withhold messages and restarts for a while; the looking goes on.
    Add(AddArgs),
    /// Show the silences that are open, and the recurring ones of the coming week.
    List(StoreArgs),
    /// Take a silence back.
    Remove(RemoveArgs),
}

/// Where silences are kept: in the deployed watchdog's table, which WATCHDOG_TABLE names, or in
/// a file.
#[derive(Args)]
pub struct StoreArgs {
    /// The configuration [default: $WATCHDOG_CONFIG, ./watchdog.toml, or the variables
    /// WATCHDOG_…].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state file that `watchdog check --state` uses, instead of AWS.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Only this scheduler; may be repeated [default: all that are configured].
    #[arg(long = "scheduler", value_name = "NAME")]
    schedulers: Vec<String>,
}

#[derive(Args)]
pub struct AddArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// For how long, such as 90m or 2h; at most 24h [default: 1h].
    #[arg(
        long = "for",
        value_name = "DURATION",
        value_parser = duration,
        conflicts_with = "until",
        allow_hyphen_values = true
    )]
    length: Option<SignedDuration>,
    /// Until when: an RFC 3339 time, with its offset.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Why; shown wherever something is withheld.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only this condition, such as job-overdue [default: everything].
    #[arg(long, value_name = "CONDITION", value_parser = condition)]
    condition: Option<Condition>,
    /// Who wants it [default: $USER].
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

#[derive(Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Its name, as `silence list` shows it.
    id: String,
}

fn condition(text: &str) -> Result<Condition, String> {
    text.parse()
}

pub fn run(command: SilenceCommand) -> Result<u8, Failure> {
    let text = match command {
        SilenceCommand::Add(args) => add(&args)?,
        SilenceCommand::List(store) => {
            let (config, _) = configuration(store.config.clone())?;
            let chosen = config.select(&store.schedulers)?;
            in_store(&config, &store, Wish::List(&chosen))?
        }
        SilenceCommand::Remove(args) => {
            let (config, _) = configuration(args.store.config.clone())?;
            let chosen = config.select(&args.store.schedulers)?;
            in_store(&config, &args.store, Wish::Remove(&chosen, &args.id))?
        }
    };
    print(&text)?;
    Ok(0)
}

fn add(args: &AddArgs) -> Result<String, Failure> {
    let (config, _) = configuration(args.store.config.clone())?;
    let chosen = config.select(&args.store.schedulers)?;
    let now = now();
    let until = match &args.until {
        Some(until) if until.is_absolute() => until.at,
        Some(until) => return Err(without_offset(&until.text, &chosen).into()),
        None => now.checked_add(args.length.unwrap_or(silence::DEFAULT))?,
    };
    let environment = Environment::of_process();
    let author = (args.author.as_deref()).or_else(|| environment.get("USER"));
    let author = author.unwrap_or("unknown");
    let wanted = OneOff::new(now, until, &args.reason, author, args.condition)?;
    in_store(&config, &args.store, Wish::Add(&chosen, &wanted))
}

/// A silence that ends hours away from what was meant would hide an outage, so none is guessed.
fn without_offset(text: &str, schedulers: &[&Scheduler]) -> String {
    let written = |zone: &TimeZone, format: &str| {
        let at = local::time::parse(text, zone)?;
        let wall = at.to_zoned_datetime(zone.clone());
        Some(format!("`{}`", wall.strftime(format)))
    };
    let own = (schedulers.first())
        .map(|scheduler| &scheduler.timezone)
        .filter(|zone| **zone != TimeZone::UTC)
        .and_then(|zone| written(zone, "%Y-%m-%dT%H:%M:%S%:z"));
    let meant: Vec<String> = (own.into_iter())
        .chain(written(&TimeZone::UTC, "%Y-%m-%dT%H:%M:%SZ"))
        .collect();
    format!(
        "--until `{text}` has no offset; write {}",
        meant.join(" or ")
    )
}

/// What is to be done in the store.
#[derive(Clone, Copy)]
enum Wish<'a> {
    Add(&'a [&'a Scheduler], &'a OneOff),
    List(&'a [&'a Scheduler]),
    Remove(&'a [&'a Scheduler], &'a str),
}

fn in_store(config: &Config, store: &StoreArgs, wish: Wish<'_>) -> Result<String, Failure> {
    let Some(state) = store.state.clone() else {
        return on_aws(config, async |world| fulfil(world, wish).await);
    };
    let files = Files {
        state: Some(state),
        ..Files::default()
    };
    let world = LocalWorld::read(config, &files, &mut |_| {})?;
    world.set_now(now());
    runtime()?.block_on(fulfil(&world, wish))
}

async fn fulfil<W: World>(world: &W, wish: Wish<'_>) -> Result<String, Failure> {
    match wish {
        Wish::Add(schedulers, wanted) => {
            operator::silence(world, schedulers, wanted).await?;
            let names: Vec<&str> = schedulers.iter().map(|s| s.name.as_str()).collect();
            let what = wanted.condition.map_or("everything", Condition::id);
            let zone = (schedulers.first()).map_or(TimeZone::UTC, |s| s.timezone.clone());
            Ok(format!(
                "silence {} until {}: {what} of {}\n",
                wanted.id,
                operator::moment(wanted.until, &zone),
                names.join(", "),
            ))
        }
        Wish::List(schedulers) => Ok(operator::silences(world, schedulers).await?),
        Wish::Remove(schedulers, id) => {
            let names = operator::unsilence(world, schedulers, id).await?;
            Ok(format!("silence {id} removed: {}\n", names.join(", ")))
        }
    }
}
