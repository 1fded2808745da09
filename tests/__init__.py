"""Tests of convform itself."""
