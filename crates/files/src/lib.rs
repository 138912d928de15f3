//! Folders that nothing in them leads out of, and streams of their files. Kernels have their own files,
//! namespaces lasting ones; both are reached through [`Store`].

mod feed;
mod folder;
mod folder_watches;
mod store;
mod tally;
mod watcher;

pub use self::feed::Feed;
pub use self::feed::Feeds;
pub use self::feed::FileEvent;
pub use self::feed::FileWatch;
pub use self::feed::OpenWatch;
pub use self::folder::Folder;
pub use self::folder_watches::FolderWatches;
pub use self::store::Content;
pub use self::store::FolderStore;
pub use self::store::Store;
pub use self::store::StoreError;
pub use self::store::delete;
pub use self::store::read;
pub use self::store::watch;
pub use self::store::write;
pub use self::watcher::Tell;
pub use self::watcher::Watcher;
