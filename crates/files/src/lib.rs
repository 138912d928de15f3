//! Folders that nothing in them leads out of, and streams of their files. Kernels have their own files,
//! namespaces lasting ones; both are reached through [`Store`].

mod folder;
mod store;

pub use self::folder::Folder;
pub use self::store::Content;
pub use self::store::FolderStore;
pub use self::store::Store;
pub use self::store::StoreError;
pub use self::store::delete;
pub use self::store::read;
pub use self::store::write;
