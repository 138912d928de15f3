//! Who calls and what they may do. A face makes one [`Caller`] of each request; every method of a
//! manager takes it first.

mod caller;
mod error;
mod secret;
mod time;
pub mod tokens;

pub use self::caller::Caller;
pub use self::caller::Denied;
pub use self::caller::Right;
pub use self::caller::Scope;
pub use self::error::Classified;
pub use self::error::ErrorKind;
pub use self::secret::Secret;
pub use self::secret::exposed;
pub use self::time::timestamp;
pub use self::tokens::Access;
pub use self::tokens::Tokens;
