"""What can be measured in a few minutes: `python -m benchmarks` (the large database: `python -m benchmarks.scale`)."""

from benchmarks import latency, post, sse


def main() -> None:
    """One after the other: what is compared must not run beside something else."""
    post.main()
    sse.main()
    latency.main()


if __name__ == "__main__":
    main()
