//! How files are encoded, where people's tools may have written something else than UTF-8.

/// Windows PowerShell redirects into such files.
pub const UTF_16: &str = "it is encoded in UTF-16, not UTF-8";

/// Whether a file begins with the mark of UTF-16.
pub fn is_utf_16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}
