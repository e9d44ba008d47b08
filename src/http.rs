//! Asks servers of other people: an application's health endpoint, a dead man's switch.
//!
//! Everything about it is bounded: time, size, the number of redirects, and where it may lead.
//! An address of a private network is not connected to unless the configuration allows it, and
//! then only as the configured host's: neither a name that leads there, however often it
//! changes, nor a redirect helps. Proxies from the environment are not used. Nothing of a URL
//! but scheme, host and port is told.

mod address;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::tz::TimeZone;
use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::header::LOCATION;
use reqwest::{Client, Response};
use url::{Host, Url};

use crate::config::Endpoint;
use crate::health::Health;
use crate::snapshot::{CallError, Obstacle};
use address::is_public;

/// To connect to one host, name look-up included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For the whole answer, redirects included. The endpoint reads one cached value; whatever
/// takes longer is an answer, too.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest document that is read, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 3;

/// How the watchdog calls itself.
const AGENT: &str = concat!("scheduler-watchdog/", env!("CARGO_PKG_VERSION"));

/// The HTTP side of the process. Clients are built when they are first needed; connections are
/// not kept, so that each one is checked.
#[derive(Debug)]
pub struct Http {
    timeout: Duration,
    /// Connects to public addresses only.
    public: OnceLock<Client>,
    /// Connects to any address.
    anywhere: OnceLock<Client>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT,
            public: OnceLock::new(),
            anywhere: OnceLock::new(),
        }
    }
}

/// What is asked, for errors.
#[derive(Clone, Copy)]
struct Asked<'a> {
    endpoint: &'a Endpoint,
    /// "the health endpoint"
    what: &'static str,
    /// The keys of the configuration.
    url: &'static str,
    allow_private: &'static str,
}

impl Http {
    /// Asks a health endpoint. A time that it writes without an offset is in `zone`.
    ///
    /// # Errors
    /// It gives no answer in time, none that is a health endpoint's, or may not be asked.
    pub async fn health(&self, endpoint: &Endpoint, zone: &TimeZone) -> Result<Health, CallError> {
        let asked = Asked {
            endpoint,
            what: "the health endpoint",
            url: "health_url",
            allow_private: "health_allow_private",
        };
        let answer = async {
            let response = self.get(endpoint).await?;
            Ok((response.status().as_u16(), document(response).await?))
        };
        let (status, body) = self.within(asked, answer).await?;
        Health::read(&asked.to_string(), status, &body, zone)
    }

    /// Tells a dead man's switch that all is well.
    ///
    /// # Errors
    /// It gives no answer in time, none of success, or may not be asked.
    pub async fn ping(&self, endpoint: &Endpoint) -> Result<(), CallError> {
        let asked = Asked {
            endpoint,
            what: "the dead man's switch",
            url: "ping_url",
            allow_private: "ping_allow_private",
        };
        let status = self.within(asked, self.get(endpoint)).await?.status();
        if status.is_success() {
            return Ok(());
        }
        let why = format!(
            "{asked} answered with {}: check `ping_url`",
            status.as_u16()
        );
        Err(CallError::new(Obstacle::Failed, why))
    }

    async fn within<T>(
        &self,
        asked: Asked<'_>,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(|failure| failure.of(asked)),
            Err(_) => Err(Failure::Late.of(asked)),
        }
    }

    /// The first answer that is no redirect.
    async fn get(&self, endpoint: &Endpoint) -> Result<Response, Failure> {
        let mut url = endpoint.url().clone();
        for _ in 0..=MOST_REDIRECTS {
            let is_home = url.host() == endpoint.url().host();
            let anywhere = endpoint.allow_private && is_home;
            // A name is checked when it is looked up, for the very address that is connected to.
            if let Some(address) = literal(&url)
                && !anywhere
                && !is_public(address)
            {
                return Err(private(address, is_home));
            }
            let answer = self.client(anywhere)?.get(url.clone()).send().await;
            let response = answer.map_err(|error| Failure::of_client(error, is_home))?;
            match redirect(&url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(Failure::Redirect("more than three times"))
    }

    fn client(&self, anywhere: bool) -> Result<&Client, Failure> {
        let kept = if anywhere {
            &self.anywhere
        } else {
            &self.public
        };
        if let Some(client) = kept.get() {
            return Ok(client);
        }
        let mut client = Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .no_proxy();
        if !anywhere {
            client = client.dns_resolver(PublicOnly);
        }
        let client = (client.build()).map_err(|error| Failure::of_client(error, true))?;
        Ok(kept.get_or_init(|| client))
    }
}

/// The address in a URL that names one instead of a host.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    }
}

/// Where an answer sends its reader, if it does.
fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, Failure> {
    let Some(to) =
        (response.headers().get(LOCATION)).filter(|_| response.status().is_redirection())
    else {
        return Ok(None);
    };
    let to = to.to_str().ok().and_then(|to| from.join(to).ok());
    let mut to = to.ok_or(Failure::Redirect("to what is no URL"))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(Failure::Redirect("from https to http")),
        _ => return Err(Failure::Redirect("to what is neither http nor https")),
    }
    if to.origin() == from.origin() && to.username().is_empty() {
        // They fail only for URLs without a host.
        let _ = to.set_username(from.username());
        let _ = to.set_password(from.password());
    }
    Ok(Some(to))
}

/// The whole body, if it is not too long.
async fn document(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|error| Failure::of_client(error, true))? else {
            return Ok(body);
        };
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
}

/// Looks up names, and leaves out the addresses that are not public.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = (all.iter().copied())
                .filter(|address| is_public(address.ip()))
                .collect();
            match all.first() {
                Some(address) if public.is_empty() => Err(Private(address.ip()).into()),
                _ => Ok(Box::new(public.into_iter()) as Box<_>),
            }
        })
    }
}

/// An address that may not be connected to.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} is no public address")]
struct Private(IpAddr);

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    Late,
    TooLong,
    Redirect(&'static str),
    /// The configured host's address, which the configuration could allow.
    Private(IpAddr),
    Other(String),
}

fn private(address: IpAddr, is_home: bool) -> Failure {
    if is_home {
        Failure::Private(address)
    } else {
        Failure::Redirect("to an address that is not public")
    }
}

impl Failure {
    fn of_client(error: reqwest::Error, is_home: bool) -> Self {
        // The URL may hold secrets.
        let error = error.without_url();
        let mut root: &(dyn Error + 'static) = &error;
        loop {
            if let Some(Private(address)) = root.downcast_ref() {
                return private(*address, is_home);
            }
            match root.source() {
                Some(source) => root = source,
                None if error.is_timeout() => return Self::Late,
                None => return Self::Other(root.to_string()),
            }
        }
    }

    fn of(self, asked: Asked<'_>) -> CallError {
        let Asked {
            url, allow_private, ..
        } = asked;
        let (kind, what) = match self {
            Self::Late => (Obstacle::TimedOut, "gave no answer in time".to_owned()),
            Self::TooLong => (
                Obstacle::Failed,
                format!("answered with more than 64 KiB: check `{url}`"),
            ),
            Self::Redirect(how) => (
                Obstacle::Refused,
                format!("redirects {how}, which is not followed: check `{url}`"),
            ),
            Self::Private(address) => (
                Obstacle::Refused,
                format!(
                    "has the address {address}, which is not public, and is not asked: \
                     `{allow_private} = true` allows it"
                ),
            ),
            Self::Other(why) => (Obstacle::Failed, format!("gave no answer ({why})")),
        };
        CallError::new(kind, format!("{asked} {what}"))
    }
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.endpoint)
    }
}

#[cfg(test)]
mod tests;
