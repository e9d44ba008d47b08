//! Asks servers of other people: an application's health endpoint, a dead man's switch.
//!
//! Everything about it is bounded: time, size, the number of redirects, and where it may lead.
//! An address of a private network is not connected to unless the configuration allows it, and
//! then only as the configured host's: neither a name that leads there, however often it
//! changes, nor a redirect helps. Proxies from the environment are not used. Nothing of a URL
//! but scheme, host and port is told.

mod address;
pub(crate) mod names;

use std::error::Error;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_types::base64;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::config::Endpoint;
use crate::health::Health;
use crate::snapshot::{CallError, Obstacle};
use address::is_public;
use names::{Names, Private};

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
    public: OnceLock<Connector>,
    /// Connects to any address.
    anywhere: OnceLock<Connector>,
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
    async fn get(&self, endpoint: &Endpoint) -> Result<HttpResponse, Failure> {
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
            let answer = self.client(anywhere).call(request(&url)?).await;
            let response = answer.map_err(|error| {
                if error.is_timeout() {
                    return Failure::Late;
                }
                Failure::of_client(&error, is_home)
            })?;
            match redirect(&url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(Failure::Redirect("more than three times"))
    }

    fn client(&self, anywhere: bool) -> &Connector {
        let (kept, names) = if anywhere {
            (&self.anywhere, Names::All)
        } else {
            (&self.public, Names::Public)
        };
        kept.get_or_init(|| {
            ConnectorBuilder::default()
                .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
                .connector_settings(
                    HttpConnectorSettings::builder()
                        .connect_timeout(CONNECT_TIMEOUT)
                        .build(),
                )
                .pool_max_idle_per_host(0)
                .build_with_resolver(names)
        })
    }
}

/// Asks for a URL. Its user and password are told as a browser tells them.
fn request(url: &Url) -> Result<HttpRequest, Failure> {
    let mut bare = url.clone();
    bare.set_fragment(None);
    // They fail only for URLs without a host.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    let request = HttpRequest::get(bare);
    let mut request = request.map_err(|error| Failure::of_client(&error, true))?;
    let headers = request.headers_mut();
    headers.insert("accept", "*/*");
    headers.insert("user-agent", AGENT);
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |part: &str| percent_decode_str(part).collect::<Vec<u8>>();
        let mut credentials = decoded(url.username());
        credentials.push(b':');
        credentials.extend(decoded(url.password().unwrap_or_default()));
        let basic = format!("Basic {}", base64::encode(credentials));
        headers.insert("authorization", basic);
    }
    Ok(request)
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
fn redirect(from: &Url, response: &HttpResponse) -> Result<Option<Url>, Failure> {
    let is_redirect = (300..400).contains(&response.status().as_u16());
    let Some(to) = (response.headers().get("location")).filter(|_| is_redirect) else {
        return Ok(None);
    };
    let to = from.join(to).ok();
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
async fn document(response: HttpResponse) -> Result<Vec<u8>, Failure> {
    let mut chunks = ByteStream::new(response.into_body());
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Failure::of_client(&error, true))?;
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

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
    /// What is at the root of an error; those above it may hold the URL, and secrets.
    fn of_client(error: &(dyn Error + 'static), is_home: bool) -> Self {
        let mut root = error;
        loop {
            if let Some(Private(address)) = root.downcast_ref() {
                return private(*address, is_home);
            }
            match root.source() {
                Some(source) => root = source,
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
