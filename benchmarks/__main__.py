"""What can be measured in an hour: `python -m benchmarks [--only service|training|diffusion]`.

Apart from that: the large database, `python -m benchmarks.scale`; a GPU, `benchmarks.gpu_text` and `gpu_diffusion`.
"""

import argparse

from benchmarks import checkpoints, diffusion, latency, post, sse, training, training_report, training_start

PARTS = ("service", "training", "diffusion")


def main(parts: list[str]) -> None:
    """One after the other: what is compared must not run beside something else."""
    if "service" in parts:
        post.main()
        sse.main()
        latency.main()
    if "training" in parts:
        training.main(rounds=3)
        training_start.main()
        training_report.main()
        checkpoints.main(rounds=3)
    if "diffusion" in parts:
        diffusion.main(rounds=3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    main([only] if only else list(PARTS))
