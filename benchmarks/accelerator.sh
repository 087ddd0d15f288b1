#!/usr/bin/env bash
# What only an accelerator can show, in ten minutes: a step of each method over a plain step at 224 px in bfloat16, peak
# memory as it is, with checkpointing and compiled, and images a second under AutoAttack.
#
#     benchmarks/accelerator.sh DATA OUTPUT [rehearsal]
#
# DATA is a folder of CIFAR-10. All that is printed is in OUTPUT/log.txt, the evaluation beside it. `rehearsal` does the
# same in small, for a CPU.
set -euo pipefail
data=$(realpath "$1") output=$2
cd "$(dirname "$0")/.."
mkdir -p "$output"
output=$(realpath "$output")
exec > >(tee "$output/log.txt") 2>&1

step=(--architecture resnet50 --batch-size 128 --bf16 --compiled)
methods=()
images=1000 version=standard
if [[ ${3:-} == rehearsal ]]; then
    step=(--architecture resnet18 --image-size 64 --batch-size 4 --bf16 --compiled)
    methods=(plain rslad igam)
    images=20 version=quick
fi

python benchmarks/photo_step.py "${methods[@]}" "${step[@]}"
accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
    recipes/evaluate.py --model local-dir:model_cards/resnet18_cifar.nfgsm_linf8_cifar10 --data "$data" \
    --threat linf:8/255 --version "$version" --test-images "$images" --honesty-images 16 --output "$output/evaluation"
python - "$output/evaluation" <<'PYTHON'
import sys
from pathlib import Path

from robust_hub.evaluation import Report
report = Report.read(Path(sys.argv[1]))
seconds = sum(cost.seconds for cost in report.costs.values())
n = report.evaluation.clean_accuracy.n
print(f"{report.hardware}: {n} images in {seconds:.1f} s of {', '.join(report.attacks)}, {n / seconds:.1f} images / s")
PYTHON
