"""What crosses a process border: records, pools of shared memory, feeds, and the clock."""
