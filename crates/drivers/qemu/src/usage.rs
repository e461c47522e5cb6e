//! What a VM has used: QEMU counts what goes to disks and knows which threads are the guest's processors; the kernel counts
//! their time. Interfaces are counted in the namespace of their network, which this driver does not know.

use std::fs;

use driver::process::{TICKS, stat};
use driver::{DriverFault, Result};
use model::{DiskUsage, VmUsage};
use serde_json::Value;

use crate::{Qemu, failed, qmp};

impl Qemu {
    pub(crate) async fn usage_of(&self, id: &str) -> Result<VmUsage> {
        let gone = || DriverFault::NotReady(format!("VM {id} does not run"));
        let (process, dir) = (self.process(id).ok_or_else(gone)?, self.vm_dir(id));
        let ask = async |command: &str| {
            qmp::command(&dir, command)
                .await
                .map_err(|e| failed(format!("QEMU of VM {id} does not answer {command}"), e))
        };
        let (cpus, blocks) = (ask("query-cpus-fast").await?, ask("query-blockstats").await?);
        Ok(VmUsage {
            seconds: process.seconds(),
            cpu_nanoseconds: cpus
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|cpu| time_of(process.pid, cpu))
                .collect(),
            resident_kib: resident(process.pid),
            disks: disks(&blocks),
        })
    }
}

fn number(fields: &[String], index: usize) -> u64 {
    fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The time of one virtual processor: its thread's, in user and in kernel mode.
fn time_of(pid: i32, cpu: &Value) -> Option<u64> {
    let stat = stat(&format!("/proc/{pid}/task/{}/stat", cpu["thread-id"].as_u64()?))?;
    Some((number(&stat, 11) + number(&stat, 12)) * (1_000_000_000 / TICKS))
}

fn resident(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// The guest's disks alone: firmware is a block device too.
fn disks(blocks: &Value) -> Vec<DiskUsage> {
    let blocks = blocks.as_array().into_iter().flatten();
    let disk =
        |block: &&Value| block["qdev"].as_str().is_some_and(|path| path.split('/').any(|p| p.starts_with("blk-")));
    let usage = |block: &Value| {
        let stats = &block["stats"];
        let of = |name: &str| stats[name].as_u64().unwrap_or(0);
        DiskUsage {
            read_bytes: of("rd_bytes"),
            read_requests: of("rd_operations"),
            write_bytes: of("wr_bytes"),
            write_requests: of("wr_operations"),
            errors: of("failed_rd_operations") + of("failed_wr_operations"),
        }
    };
    blocks.filter(disk).map(usage).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn firmware_is_no_disk() {
        let stats = json!({"rd_bytes": 512, "rd_operations": 1, "wr_bytes": 1024, "wr_operations": 2,
            "failed_rd_operations": 1, "failed_wr_operations": 2});
        let blocks = json!([
            {"qdev": "/machine/system.flash0", "stats": stats},
            {"qdev": "/machine/peripheral/blk-root/virtio-backend", "stats": stats},
            {"qdev": "blk-config", "stats": {}},
        ]);
        let root = DiskUsage { read_bytes: 512, read_requests: 1, write_bytes: 1024, write_requests: 2, errors: 3 };
        assert_eq!(disks(&blocks), [root, DiskUsage::default()]);
    }
}
