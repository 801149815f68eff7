"""What the fault tests are made of: commands started in no time, file system events, comparison of stores."""
