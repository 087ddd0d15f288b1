#!/usr/bin/env bash
# The same recipe on all nodes of a job; goes on where it was when the job is queued again.
#
#   sbatch --nodes 2 --gpus-per-node 8 examples/slurm.sh OUTPUT recipes/transfer.py rslad --teacher ... --data ...
#
# OUTPUT is on a file system that all nodes share, and so is HF_HOME, unless each node has its own copy of the data.
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
set -euo pipefail

output=$1; shift
main=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
each=${SLURM_GPUS_ON_NODE:-1}
launch=(accelerate launch --multi_gpu --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * each))
	--main_process_ip "$main" --main_process_port "${PORT:-29500}"
	--mixed_precision "${PRECISION:-bf16}" --dynamo_backend no)
resume=()
if [ -e "$output/run.json" ]; then resume=(--resume); fi
# The number of the node is known on the node only.
srun bash -c 'rank=$SLURM_NODEID; exec "${@:1:2}" --machine_rank "$rank" "${@:3}"' node \
	"${launch[@]}" "$@" --output "$output" ${resume[@]+"${resume[@]}"}
