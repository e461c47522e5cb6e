//! A host that destroys what it should put aside; a bug on purpose, see [`crate::Mutation::Aside`].

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use driver::sim::Host;
use driver::{Health, Result, SeenVm, TapSource, VmDriver};
use model::wanted::WantedVm;

/// Destroys what it should put aside.
pub struct Careless(pub Host);

#[async_trait]
impl VmDriver for Careless {
    async fn health(&self) -> Health {
        VmDriver::health(&self.0).await
    }
    async fn list(&self) -> Result<Vec<SeenVm>> {
        VmDriver::list(&self.0).await
    }
    async fn ensure(&self, vm: &WantedVm, taps: &dyn TapSource) -> Result<SeenVm> {
        self.0.ensure(vm, taps).await
    }
    async fn remove(&self, id: &str, keep_disks: bool) -> Result<()> {
        VmDriver::remove(&self.0, id, keep_disks).await
    }
    async fn put_aside(&self, id: &str, _: &Path) -> Result<bool> {
        VmDriver::remove(&self.0, id, false).await.map(|()| false)
    }
    async fn give_back(&self, id: &str, from: &Path) -> Result<()> {
        self.0.give_back(id, from).await
    }
    async fn copy_disk(&self, id: &str, disk: &str, to: &Path) -> Result<u64> {
        self.0.copy_disk(id, disk, to).await
    }
    async fn end_copy(&self, id: &str) -> Result<()> {
        self.0.end_copy(id).await
    }
    fn console_log(&self, id: &str) -> PathBuf {
        self.0.console_log(id)
    }
}
