#!/bin/bash
# 4 nodes of 8 GPUs: one torchrun on each node, which starts one process for each GPU.
# Submit with: sbatch docs/launch/slurm.sh recipe.yaml --out /shared/runs
#SBATCH --job-name=vernacular
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Restarted processes must not be handed the addresses of those that died.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / 8))

srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node=8 \
    --max-restarts=3 \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$head:29500" \
    -m vernacular.cli.main run "$@"
