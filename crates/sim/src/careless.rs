//! A host that destroys what it should put aside; a bug on purpose, see [`crate::Mutation::Aside`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use driver::{Health, Result, SeenVm, TapSource, VmDriver};
use model::VmUsage;
use model::wanted::{Generation, WantedVm};

/// Destroys what it should put aside.
pub struct Careless(pub Arc<dyn VmDriver>);

#[async_trait]
impl VmDriver for Careless {
    async fn health(&self) -> Health {
        self.0.health().await
    }
    async fn list(&self) -> Result<Vec<SeenVm>> {
        self.0.list().await
    }
    async fn ensure(&self, vm: &WantedVm, taps: &dyn TapSource) -> Result<SeenVm> {
        self.0.ensure(vm, taps).await
    }
    async fn remove(&self, id: &str, keep_disks: bool, at: Generation) -> Result<()> {
        self.0.remove(id, keep_disks, at).await
    }
    async fn put_aside(&self, id: &str, _: &Path, at: Generation) -> Result<bool> {
        self.0.remove(id, false, at).await.map(|()| false)
    }
    async fn give_back(&self, id: &str, from: &Path, at: Generation) -> Result<()> {
        self.0.give_back(id, from, at).await
    }
    async fn copy_disk(&self, id: &str, disk: &str, to: &Path, at: Generation) -> Result<u64> {
        self.0.copy_disk(id, disk, to, at).await
    }
    async fn end_copy(&self, id: &str, at: Generation) -> Result<()> {
        self.0.end_copy(id, at).await
    }
    fn forget_generations(&self) -> Result<()> {
        self.0.forget_generations()
    }
    async fn usage(&self, id: &str) -> Result<VmUsage> {
        self.0.usage(id).await
    }
    fn console_log(&self, id: &str) -> PathBuf {
        self.0.console_log(id)
    }
}
