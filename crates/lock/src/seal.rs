//! Plaintext to armoured age files.

use std::collections::BTreeSet;
use std::io::Write as _;

use age::armor::{ArmoredWriter, Format};
use zen_model::Secret;

use crate::{MAX_PLAINTEXT, MAX_RECIPIENTS, Recipient};

/// Something cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// To nobody.
    #[error("no public key was given to seal to")]
    NoRecipients,
    /// To more keys than [`MAX_RECIPIENTS`].
    #[error("{0} public keys are more than the {MAX_RECIPIENTS} that a ZenLock may be sealed to")]
    TooManyRecipients(usize),
    /// More than [`MAX_PLAINTEXT`].
    #[error("{0} bytes are more than the {MAX_PLAINTEXT} that a key of a ZenLock may have")]
    TooLarge(usize),
    /// The system gives no random numbers, or the like.
    #[error("failed to encrypt")]
    Failed(#[source] std::io::Error),
}

/// An armoured age file, one line end at its end, that each of the keys opens. Twice the same is never the same text: the
/// file key is random.
pub fn seal(plaintext: &Secret, recipients: &[Recipient]) -> Result<String, SealError> {
    let distinct: BTreeSet<_> = recipients.iter().collect();
    let bytes = plaintext.expose();
    match (distinct.len(), bytes.len()) {
        (0, _) => return Err(SealError::NoRecipients),
        (count, _) if count > MAX_RECIPIENTS => return Err(SealError::TooManyRecipients(count)),
        (_, size) if size > MAX_PLAINTEXT => return Err(SealError::TooLarge(size)),
        _ => {}
    }
    let recipients = distinct.iter().map(|recipient| recipient.key() as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(std::io::Error::other);
    let encryptor = encryptor.map_err(SealError::Failed)?;
    let write = || -> std::io::Result<Vec<u8>> {
        let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut file = encryptor.wrap_output(armor)?;
        file.write_all(bytes)?;
        file.finish()?.finish()
    };
    let text = write().map_err(SealError::Failed)?;
    String::from_utf8(text).map_err(|error| SealError::Failed(std::io::Error::other(error)))
}
