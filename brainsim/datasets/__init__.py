"""Turn NIfTI images, BIDS trees and tables into clean runs with ROIs, streams and quality figures."""
