"""Scoring: the values it produces, the statistics behind them, and the process that scores."""
