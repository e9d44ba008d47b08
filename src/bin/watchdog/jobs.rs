//! `watchdog jobs`: arguments, files, and what is printed.

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::check;
use scheduler_watchdog::config::{Config, Scheduler};
use scheduler_watchdog::encoding;
use scheduler_watchdog::jobs::suggest::Observed;
use scheduler_watchdog::jobs::{import, list, suggest};
use scheduler_watchdog::local::{Files, LocalWorld};
use scheduler_watchdog::snapshot;
use scheduler_watchdog::world::World;

use super::{
    Failure, Format, Moment, Progress, configuration, moment, now, on_aws, print, runtime,
};

#[derive(Subcommand)]
pub enum JobsCommand {
    /// Turn the application's own list into job tables for the configuration.
    ///
    /// Reads what `php artisan schedule:list --json` prints, and the plain list of older
    /// versions.
    Import(ImportArgs),
    /// Show each job: when it is due next, when it ran last, and how it stands.
    ///
    /// Through AWS from the deployed watchdog's memory (WATCHDOG_TABLE names its table), from a
    /// state file, or worked out from log files.
    List(ListArgs),
    /// Propose job tables from past logs, as guesses.
    Suggest(SuggestArgs),
}

#[derive(Args)]
pub struct ImportArgs {
    /// The list; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Compare the configuration with the list instead. Exit code: 0 equal, 1 drifted.
    #[arg(long)]
    check: bool,
    /// The configuration, for --check and for the scheduler's time zone [default: $WATCHDOG_CONFIG,
    /// ./watchdog.toml, or the variables WATCHDOG_…].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The scheduler that the list is of; needed where several are configured.
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,
}

#[derive(Args)]
pub struct ListArgs {
    /// The configuration [default: $WATCHDOG_CONFIG, ./watchdog.toml, or the variables
    /// WATCHDOG_…].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Work it out from these log files; `-` is standard input.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "state")]
    log_file: Vec<PathBuf>,
    /// Take it from this state file.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The time of the look: an RFC 3339 time, or `now` [default: now; for log files the time
    /// of their last event].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    now: Option<Moment>,
    /// Only this scheduler; may be repeated.
    #[arg(long = "scheduler", value_name = "NAME")]
    schedulers: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
pub struct SuggestArgs {
    /// The log files; `-` is standard input.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    logs: Vec<PathBuf>,
    /// How their lines are read.
    #[arg(long, value_name = "NAME", default_value = "laravel")]
    preset: String,
    /// The time zone of the schedule.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
}

pub fn run(command: JobsCommand) -> Result<u8, Failure> {
    match command {
        JobsCommand::Import(args) => import(args),
        JobsCommand::List(args) => list(args),
        JobsCommand::Suggest(args) => suggest(args),
    }
}

fn import(args: ImportArgs) -> Result<u8, Failure> {
    let mut text = Vec::new();
    let name = args.file.display().to_string();
    let read = if name == "-" {
        io::stdin().read_to_end(&mut text)
    } else {
        fs::read(&args.file).map(|bytes| {
            text = bytes;
            text.len()
        })
    };
    read.map_err(|error| format!("{name}: cannot be read: {error}"))?;
    if encoding::is_utf_16(&text) {
        return Err(format!("{name}: {}", encoding::UTF_16).into());
    }
    let text = String::from_utf8_lossy(&text);
    let list = import::read(&text).map_err(|error| format!("{name}: {error}"))?;
    let wanted = args.check || args.scheduler.is_some() || args.config.is_some();
    let config = wanted.then(|| configuration(args.config)).transpose()?;
    let scheduler = (config.as_ref())
        .map(|(config, _)| the_one(config, args.scheduler.as_deref()))
        .transpose()?;
    let Some(scheduler) = scheduler.filter(|_| args.check) else {
        let tables = import::tables(&list, scheduler.map(|scheduler| &scheduler.timezone));
        print(&tables)?;
        return Ok(0);
    };
    let drift = import::drift(scheduler, &list, now());
    let lines: String = (drift.iter())
        .map(|drift| format!("{}: {}\n", drift.job, drift.what))
        .collect();
    if drift.is_empty() {
        print(&format!(
            "{}: the configuration and the list agree\n",
            scheduler.name
        ))?;
        return Ok(0);
    }
    print(&lines)?;
    Ok(1)
}

/// The scheduler of that name; the only one, if none is named.
fn the_one<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Scheduler, Failure> {
    let names: Vec<String> = name.map(str::to_owned).into_iter().collect();
    match config.select(&names)?.as_slice() {
        [one] => Ok(one),
        many => {
            let names: Vec<&str> = many
                .iter()
                .map(|scheduler| scheduler.name.as_str())
                .collect();
            Err(format!("say which with --scheduler: {}", names.join(", ")).into())
        }
    }
}

fn list(args: ListArgs) -> Result<u8, Failure> {
    let (config, _) = configuration(args.config.clone())?;
    let schedulers = config.select(&args.schedulers)?;
    let at = args.now.as_ref().map(Moment::in_utc);
    if args.log_file.is_empty() && args.state.is_none() {
        let text = on_aws(&config, async |world| {
            listed(
                world,
                &schedulers,
                at.unwrap_or_else(|| world.now()),
                args.format,
            )
            .await
        })?;
        print(&text)?;
        return Ok(0);
    }
    let files = Files {
        logs: args.log_file.clone(),
        service: None,
        state: args.state.clone(),
    };
    let mut progress = Progress::new("looking");
    let world = LocalWorld::read(&config, &files, &mut |note| progress.tell(note))?;
    let now = match (at, world.span()) {
        (Some(now), _) => now,
        (None, Some(span)) => span.arrived,
        (None, None) => now(),
    };
    let text = runtime()?.block_on(async {
        if !args.log_file.is_empty() {
            // The passes that a deployed watchdog would have made, the one at `now` included,
            // leave its memory behind.
            let progress = &mut |done, of| progress.show(done, of);
            let _ = check::once(&config, &world, &args.schedulers, now, progress).await;
            let _ = check::remembered(&config, &world, &args.schedulers, now).await;
        }
        world.set_now(now);
        listed(&world, &schedulers, now, args.format).await
    })?;
    print(&text)?;
    Ok(0)
}

async fn listed<W: World>(
    world: &W,
    schedulers: &[&Scheduler],
    now: Timestamp,
    format: Format,
) -> Result<String, Failure> {
    let (mut texts, mut objects) = (Vec::new(), Vec::new());
    for scheduler in schedulers {
        let (state, _) = (world.load(&scheduler.name).await)
            .map_err(|error| format!("{}: {error}", scheduler.name))?;
        texts.push(list::text(scheduler, &state, now));
        objects.push(list::json(scheduler, &state, now));
    }
    Ok(match format {
        Format::Text => texts.join("\n"),
        Format::Json => format!("{:#}\n", serde_json::Value::from(objects)),
    })
}

/// Lines are read this much at a time, so that the query's limit cuts nothing.
const STEP: SignedDuration = SignedDuration::from_mins(30);

fn suggest(args: SuggestArgs) -> Result<u8, Failure> {
    let quoted = |text: &str| toml_text(text);
    let document = format!(
        "[[scheduler]]\nname = \"log\"\nlog_groups = [\"log\"]\npreset = {}\ntimezone = {}\n",
        quoted(&args.preset),
        quoted(&args.timezone),
    );
    let config = Config::parse(&document, "arguments").map_err(|mistakes| {
        mistakes
            .0
            .first()
            .map_or(String::new(), |m| m.message.clone())
    })?;
    let files = Files {
        logs: args.logs,
        ..Files::default()
    };
    let progress = Progress::new("reading");
    let world = LocalWorld::read(&config, &files, &mut |note| progress.tell(note))?;
    let span = world.span().ok_or("the log files hold no event")?;
    let scheduler = &config.schedulers[0];
    let mut observed = Observed::default();
    runtime()?.block_on(async {
        world.set_now(span.arrived);
        let mut from = span.first;
        while from <= span.last {
            let until = from + STEP;
            let window = world
                .log(scheduler, from, until - SignedDuration::from_nanos(1))
                .await;
            if let snapshot::Observed::Known(window) = window {
                observed.take(&window.lines);
            }
            from = until;
        }
    });
    print(&suggest::tables(&observed, &scheduler.timezone))?;
    Ok(0)
}

/// A text as a TOML string.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
