#!/usr/bin/env bash
# The same recipe on several machines that are reached by ssh, the first of which the others can reach.
#
#   MACHINES="alpha beta" GPUS=8 examples/ssh.sh OUTPUT recipes/transfer.py rslad --teacher ... --data ...
#
# The project, at the same place on each, is where this is started; OUTPUT is a folder that all of them share.
set -euo pipefail

output=$1; shift
read -ra machines <<< "$MACHINES"
resume=()
if [ -e "$output/run.json" ]; then resume=(--resume); fi
for rank in "${!machines[@]}"; do
	command=(accelerate launch --multi_gpu --num_machines "${#machines[@]}" --machine_rank "$rank"
		--num_processes $((${#machines[@]} * ${GPUS:-1}))
		--main_process_ip "${ADDRESS:-${machines[0]}}" --main_process_port "${PORT:-29500}"
		--mixed_precision "${PRECISION:-bf16}" --dynamo_backend no "$@" --output "$output" ${resume[@]+"${resume[@]}"})
	ssh "${machines[rank]}" "cd $(printf %q "$PWD") && PATH=$(printf %q "$PATH") $(printf '%q ' "${command[@]}")" &
done
# Fails when one of them does.
for _ in "${machines[@]}"; do wait -n; done
