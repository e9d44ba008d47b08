//! URLs of other people's servers that are asked.

use std::fmt;

use url::Url;

/// A URL that is asked, and where it may lead. It may hold a secret (a user and password, a
/// token in its path or query), so that only scheme, host and port of it are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    /// Whether its host may have an address of a private network, of this machine, or another
    /// that is not of the public internet.
    pub allow_private: bool,
}

impl Endpoint {
    /// Reads a URL of `http` or `https`.
    ///
    /// # Errors
    /// It is none. The sentence does not repeat it.
    pub fn parse(url: &str, allow_private: bool) -> Result<Self, String> {
        let url = Url::parse(url.trim()).map_err(|why| format!("this is no URL: {why}"))?;
        // A URL of these two schemes always has a host.
        if !matches!(url.scheme(), "http" | "https") {
            return Err("this is no URL of http or https".to_owned());
        }
        Ok(Self { url, allow_private })
    }

    /// The whole of it, secrets included: to be asked, not to be shown.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url.origin().ascii_serialization())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self}, allow_private: {})", self.allow_private)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_never_shown() {
        let url = "https://watch:s3cret@app.example:8443/t0ken/health?key=s3cret#s3cret";
        let endpoint = Endpoint::parse(url, false).unwrap();
        assert_eq!(endpoint.to_string(), "https://app.example:8443");
        let debug = format!("{endpoint:?}");
        assert!(
            !debug.contains("s3cret") && !debug.contains("t0ken"),
            "{debug}"
        );
    }

    #[test]
    fn what_cannot_be_asked_is_refused_without_repeating_it() {
        for url in [
            "",
            "app.example/s3cret",
            "ftp://app.example/s3cret",
            "https://",
            "https://app.example:s3cret/",
            "file:///s3cret",
        ] {
            let why = Endpoint::parse(url, false).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
