"""The ten estimators of SP 800-90B (January 2018), section 6.3.

Each is a pure function of an array of symbols 0 to k - 1 and returns exactly the values of
NIST's tool (usnistgov/SP800-90B_EntropyAssessment, version 1.1.7). If the tool differs from
the printed standard, the module does what the tool does and documents this, because
laboratories run the tool.
"""
