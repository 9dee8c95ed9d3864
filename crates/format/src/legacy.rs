//! What recordings of older versions do not say of themselves.

use super::header::Header;

/// Fills in what the header of a recording of the version `version` lacks.
pub(super) fn complete(header: &mut Header, version: u32) {
    if version < 5 {
        header.unseen_stages.iter_mut().for_each(|unseen| {
            let module = unseen.reason.strip_prefix("needs module ");
            unseen.module = module.filter(|name| !name.contains(' ')).map(str::to_owned);
        });
    }
}
