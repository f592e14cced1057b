//! The pod's ServiceAccount token, as a request carries it.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::HeaderValue;
use zen_model::Secret;

/// The header `Authorization`, read for each request: the kubelet exchanges the file.
///
/// # Errors
/// The file cannot be read, or holds what no header may hold.
pub fn authorization(file: &Path) -> io::Result<HeaderValue> {
    let token = Secret::new(std::fs::read(file)?);
    let value = Bytes::from([b"Bearer ", token.expose().trim_ascii()].concat());
    let mut value = HeaderValue::from_maybe_shared(value)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it holds no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        assert_eq!(authorization(&file).expect_err("not there").kind(), io::ErrorKind::NotFound);
        std::fs::write(&file, "abc.def\n").expect("writes");
        let value = authorization(&file).expect("read");
        assert_eq!((value.as_bytes(), value.is_sensitive()), (b"Bearer abc.def".as_slice(), true));
        std::fs::write(&file, "a\nb").expect("writes");
        assert_eq!(authorization(&file).expect_err("two lines").to_string(), "it holds no token");
    }
}
