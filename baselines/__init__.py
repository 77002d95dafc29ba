"""What SSLM is compared with. Each module hands a backbone, a task, a loss or a sampler to sslm_core's loops."""
