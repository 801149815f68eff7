"""Builds tables, figures, claims and the page from the files under results/ alone; imports no model code."""
